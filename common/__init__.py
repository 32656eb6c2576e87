"""What the chapters share: data, device, training, runs, claims, figures and the command line.

A model, and whatever belongs to one lesson, stands in the chapter that teaches it.
"""

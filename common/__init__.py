"""What the scripts share: data, device, training, checkpoints, metrics, plots, run folders and command line.

A model, and whatever is special to one lesson, stands in the script that teaches it.
"""

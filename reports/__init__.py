"""What the chapters print, draw and claim: a module for each, from plain results.

A chapter teaches; here stands how its numbers become tables, figures and verdicts.
"""

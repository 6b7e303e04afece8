"""PBPK: physiologically based pharmacokinetic models as durable jobs (extra ``pbpk``).

This package is a pure library: models, engines, populations, PK parameters and plots. It opens no
connection and knows no job; the routes and tasks beside it use it through Headway's public API.
Nothing heavy is imported here: libroadrunner, libsbml and matplotlib load when first used.
"""

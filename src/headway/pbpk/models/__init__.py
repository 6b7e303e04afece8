"""The models that come with Headway: SBML files, and the sources and the script that make them."""

"""How the bundled model is made, from nothing to the shipped weights. No part of the package."""

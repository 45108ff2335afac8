"""Registration of a pair of images: settings, initialisation, cascade, quality check, result."""

"""Pictures from pictures with pix2pix: class maps of VOC 2012, or any folder of pairs."""

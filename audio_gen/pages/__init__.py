"""Pages to listen to: static HTML made from a manifest, never by hand.

`manifest.py` reads what a batch rendered, `images.py` draws it, `listening.py` lays it out. A page opens from
disk, needs no network, and shows every clip of its manifest.
"""

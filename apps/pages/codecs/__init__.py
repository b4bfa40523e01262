"""The Codecs page: one output read in every way, and what encoding and decoding alone cost."""

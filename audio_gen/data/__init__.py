"""From a folder of recordings to tokens on disk: the doctor, preparation, the token store."""

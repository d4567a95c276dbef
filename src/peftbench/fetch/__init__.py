"""Getting data sets and models once, so that runs need nothing but a folder."""

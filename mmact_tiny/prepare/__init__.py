"""Makes a dataset that trains from a folder of videos: `prepare.prepare_data`, `types.Settings`."""

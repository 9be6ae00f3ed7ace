"""Files on the disk: the shared folder, part files, manifests and names. Only this package touches shared files."""

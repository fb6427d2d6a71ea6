"""TorchServe: archives of one model each (`export`), and a server on loopback (`server`)."""

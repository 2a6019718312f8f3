"""What is made of images on the devices, inside the compiled step."""

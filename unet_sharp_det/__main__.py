"""``python -m unet_sharp_det`` is the command ``unet-sharp-det``."""

from .cli import main

if __name__ == "__main__":
    main()

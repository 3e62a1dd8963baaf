"""What runs have saved, as this computer sees it. Which checkpoint is complete is decided on the machine."""

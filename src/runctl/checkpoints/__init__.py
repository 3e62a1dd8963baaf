"""What runs have saved, as this computer sees it: where, what may be removed, how it is fetched and put back."""

"""What runctl has left with providers: listed, judged, removed. What is not ours is never touched."""

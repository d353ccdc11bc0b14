"""What tests share. Third parties are faked here by real local servers; nothing of ours is."""

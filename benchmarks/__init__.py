"""What the project's claims of speed are made with: one command each, its peers side by side in the same run."""

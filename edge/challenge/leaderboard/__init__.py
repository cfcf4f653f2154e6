"""The organiser's side: every team on every case, scored, ranked, and a page to read it on."""

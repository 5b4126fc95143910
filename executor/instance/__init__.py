"""What all runs of a user on a machine share: the home folder, its settings, and its ledger of pools."""

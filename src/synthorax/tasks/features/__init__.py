"""The network by whose features FID and KID compare patches."""

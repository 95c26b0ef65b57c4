"""Room: settings, parsed strictly and stored resolved."""

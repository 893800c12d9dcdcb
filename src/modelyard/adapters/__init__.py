"""One file a vendor: each translates its vendor to ModelYard and its errors at the edge."""

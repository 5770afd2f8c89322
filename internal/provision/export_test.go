package provision

import "context"

// Collect drops the bundles that have not been used for a while, as Serve does
// from time to time.
func (s *Server) Collect(ctx context.Context) { s.collect(ctx) }

// PlacePrefix is for tests that make bundles by hand.
var PlacePrefix = placePrefix

// Package chaos has people work through two gateways of one PostgreSQL server
// while everything around them breaks, and checks all the time what the product
// promises: that each session holds the rights that policy gives it, that nobody
// else's roles are touched, that no connection fails without a reason, and in the
// end that nothing is left. It holds a test only:
//
//	make chaos CHAOS_SECONDS=600 CHAOS_SEED=42
//
// The seed decides everything that the test chooses. What the machine makes of it
// differs from run to run, so that a run cannot be repeated exactly; the verdict
// does not depend on how fast anything is.
package chaos

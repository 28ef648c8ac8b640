package routing

import _ "embed"

// Standard is a file of channels that is shipped: two acquirers, a bank and a backup, all simulated.
//
//go:embed standard.yaml
var Standard []byte

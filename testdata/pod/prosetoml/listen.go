package prosetoml

import (
	"net"
	"net/netip"
)

// Listen listens on an address of the configuration. 0.0.0.0 is IPv4 alone and
// :: is both, as for upstream's programs; Go's "tcp" takes both for both.
func Listen(address string) (net.Listener, error) {
	network := "tcp"
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().Is4() {
		network = "tcp4"
	}
	return net.Listen(network, address)
}

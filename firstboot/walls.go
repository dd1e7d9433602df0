package firstboot

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/prose-im/prose-image/firstboot/settings"
)

// walls is what the settings add to the packet filter: the port of other servers,
// and where SSH may come from. The machine's own files beside it come later.
func walls(s settings.Settings) ([]byte, error) {
	var b strings.Builder
	b.WriteString("# Written by prose-firstboot, from the settings federation and allow.ssh.\n")
	if s.Federation {
		b.WriteString("add element inet prose federation { 5269 }\n")
	}
	from, err := networks(s.Allow.SSH)
	if err != nil {
		return nil, fmt.Errorf("reading the setting allow.ssh: %w", err)
	}
	if len(from) > 0 {
		b.WriteString("add element inet prose ssh_listed { 22 }\n")
	}
	for _, p := range from {
		set := "ssh4"
		if p.Addr().Is6() {
			set = "ssh6"
		}
		fmt.Fprintf(&b, "add element inet prose %s { %s }\n", set, p)
	}
	return []byte(b.String()), nil
}

// networks reads networks and single addresses.
func networks(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(text); err == nil {
				p, err = a.Unmap().Prefix(a.Unmap().BitLen())
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no network", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

package cloudinit

import "net/netip"

// Found is what a platform has to say to a machine. All of it is outside input.
type Found struct {
	Platform string // where it was found, by cloud-init's name
	ID       string // the platform's name for the machine; may be empty
	// Domain is "prose-domain" of the metadata, or empty.
	Domain string
	// Public are the machine's addresses in the world.
	Public []netip.Addr
	// UserData and VendorData are as they came; see [CloudConfigs].
	UserData, VendorData []byte
}

// A Service is a platform's metadata service.
type Service struct {
	Name string // of cloud-init's datasource
	Here func(DMI) bool
	// Fetch asks for everything. What the platform does not have is left empty;
	// an error means that it could not be asked.
	Fetch func(*Web) (Found, error)
}

// Services are those that are known: one file each, and a line here.
var Services = []Service{akamai, digitalOcean, ec2, exoscale, gce, hetzner, openStack, upCloud, vultr}

// ServiceOf is the service of the platform that a machine is on, nil when the
// firmware names none. Where two fit, the first is the more special one.
func ServiceOf(d DMI) *Service {
	for i := range Services {
		if Services[i].Here(d) {
			return &Services[i]
		}
	}
	return nil
}

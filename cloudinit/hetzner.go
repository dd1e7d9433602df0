package cloudinit

// Hetzner Cloud ("Server metadata", Hetzner).
var hetzner = Service{"Hetzner", func(d DMI) bool { return d.Vendor == "Hetzner" }, func(w *Web) (f Found, err error) {
	const at = "/hetzner/v1"
	if f.UserData, err = w.get(at + "/userdata"); err != nil {
		return f, err
	}
	if f.ID, err = w.text(at + "/metadata/instance-id"); err != nil {
		return f, err
	}
	public, err := w.text(at + "/metadata/public-ipv4")
	f.Public = addresses(public)
	return f, err
}}

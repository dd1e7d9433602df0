package cloudinit

// Vultr ("Metadata API", Vultr).
var vultr = Service{"Vultr", func(d DMI) bool { return d.Vendor == "Vultr" }, func(w *Web) (Found, error) {
	w.header.Set("Metadata-Token", "cloudinit")
	var m struct {
		ID         string `json:"instance-v2-id"`
		UserData   string `json:"user-data"`
		Interfaces []struct {
			Type string `json:"network-type"`
			V4   struct {
				Address string `json:"address"`
			} `json:"ipv4"`
			V6 struct {
				Address string `json:"address"`
			} `json:"ipv6"`
		} `json:"interfaces"`
	}
	if err := w.document("/v1.json", &m); err != nil {
		return Found{}, err
	}
	f := Found{ID: m.ID, UserData: []byte(m.UserData)}
	for _, i := range m.Interfaces {
		if i.Type == "public" {
			f.Public = append(f.Public, addresses(i.V4.Address, i.V6.Address)...)
		}
	}
	return f, nil
}}

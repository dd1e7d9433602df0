package cloudinit

import "encoding/json"

// DigitalOcean: everything in one document ("Droplet Metadata API").
var digitalOcean = Service{"DigitalOcean", func(d DMI) bool { return d.Vendor == "DigitalOcean" }, func(w *Web) (Found, error) {
	var m struct {
		ID         json.Number `json:"droplet_id"`
		UserData   string      `json:"user_data"`
		VendorData string      `json:"vendor_data"`
		Interfaces struct {
			Public []struct {
				V4 struct {
					Address string `json:"ip_address"`
				} `json:"ipv4"`
				V6 struct {
					Address string `json:"ip_address"`
				} `json:"ipv6"`
			} `json:"public"`
		} `json:"interfaces"`
	}
	if err := w.document("/metadata/v1.json", &m); err != nil {
		return Found{}, err
	}
	f := Found{ID: m.ID.String(), UserData: []byte(m.UserData), VendorData: []byte(m.VendorData)}
	for _, p := range m.Interfaces.Public {
		f.Public = append(f.Public, addresses(p.V4.Address, p.V6.Address)...)
	}
	return f, nil
}}

package cloudinit

import (
	"encoding/json"
	"slices"
)

// OpenStack's Nova, under all the names that clouds give it ("Metadata service",
// OpenStack). It has no token and no header of its own.
var openStack = Service{"OpenStack", func(d DMI) bool {
	names := []string{"OpenStack Nova", "OpenStack Compute"}
	return slices.Contains(names, d.Product) ||
		slices.Contains(append(names, "OpenTelekomCloud", "SAP CCloud VM", "HUAWEICLOUD", "Samsung Cloud Platform"), d.AssetTag)
}, func(w *Web) (f Found, err error) {
	const at = "/openstack/latest"
	b, err := w.ask("GET", at+"/meta_data.json")
	if err != nil {
		return f, err
	}
	if f, err = novaMetaData(b); err != nil {
		return f, err
	}
	if f.UserData, err = w.get(at + "/user_data"); err != nil {
		return f, err
	}
	vendor, err := w.get(at + "/vendor_data.json")
	f.VendorData = novaVendorData(vendor)
	if err != nil {
		return f, err
	}
	public, err := w.text("/latest/meta-data/public-ipv4")
	f.Public = addresses(public)
	return f, err
}}

// novaMetaData reads meta_data.json, of the service or of a drive.
func novaMetaData(b []byte) (Found, error) {
	var m struct {
		UUID string         `json:"uuid"`
		Meta map[string]any `json:"meta"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return Found{}, notJSON(err)
	}
	domain, _ := m.Meta["prose-domain"].(string)
	return Found{ID: m.UUID, Domain: domain}, nil
}

// novaVendorData is what vendor_data.json has for cloud-init: a text, or one
// below "cloud-init". Anything else is not for us.
func novaVendorData(b []byte) []byte {
	var v any
	if json.Unmarshal(b, &v) != nil {
		return nil
	}
	if m, ok := v.(map[string]any); ok {
		v = m["cloud-init"]
	}
	s, _ := v.(string)
	return []byte(s)
}

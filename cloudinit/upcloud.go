package cloudinit

// UpCloud: like DigitalOcean's, with the name of the machine elsewhere. The
// service is off unless the owner has switched it on.
var upCloud = Service{"UpCloud", func(d DMI) bool { return d.Vendor == "UpCloud" }, func(w *Web) (Found, error) {
	var m struct {
		ID         string `json:"instance_id"`
		UserData   string `json:"user_data"`
		VendorData string `json:"vendor_data"`
	}
	if err := w.document("/metadata/v1.json", &m); err != nil {
		return Found{}, err
	}
	return Found{ID: m.ID, UserData: []byte(m.UserData), VendorData: []byte(m.VendorData)}, nil
}}

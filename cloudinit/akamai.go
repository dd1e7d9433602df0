package cloudinit

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// Akamai, which was Linode ("Metadata Service API", Akamai). User-data is always
// in base64.
var akamai = Service{"Akamai", func(d DMI) bool { return d.Vendor == "Linode" || d.Vendor == "Akamai" }, func(w *Web) (Found, error) {
	token, err := w.ask(http.MethodPut, "/v1/token", "Metadata-Token-Expiry-Seconds", "300")
	if err != nil {
		return Found{}, err
	}
	w.header.Set("Metadata-Token", strings.TrimSpace(string(token)))
	var m struct {
		ID json.Number `json:"id"`
	}
	if err := w.document("/v1/instance", &m, "Accept", "application/json"); err != nil {
		return Found{}, err
	}
	text, err := w.text("/v1/user-data")
	if err != nil {
		return Found{}, err
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Found{}, errors.New("reading user-data: it is no base64")
	}
	return Found{ID: m.ID.String(), UserData: data}, nil
}}

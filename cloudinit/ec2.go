package cloudinit

import (
	"errors"
	"io/fs"
	"net/http"
	"strings"
)

// Amazon EC2, and what calls itself so: version 2 of its metadata service, whose
// questions need a token ("Use the Instance Metadata Service", AWS). Version 1
// is not asked: a service that gives no token is none of Amazon's.
var ec2 = Service{"Ec2", func(d DMI) bool {
	uuid := strings.ToLower(d.UUID)
	return strings.HasPrefix(uuid, "ec2") || strings.HasPrefix(strings.ToLower(d.Serial), "ec2") ||
		// Some firmware swaps the bytes of the first group.
		len(uuid) > 8 && uuid[4] == '2' && strings.HasPrefix(uuid[6:], "ec") && d.Vendor == "Amazon EC2"
}, func(w *Web) (Found, error) {
	token, err := w.ask(http.MethodPut, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "600")
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.New("the metadata service gives no token")
		}
		return Found{}, err
	}
	w.header.Set("X-aws-ec2-metadata-token", strings.TrimSpace(string(token)))
	return amazonLike(w, "/2021-03-23")
}}

// amazonLike asks a service with the paths that Amazon's had first.
func amazonLike(w *Web, version string) (f Found, err error) {
	if f.UserData, err = w.get(version + "/user-data"); err != nil {
		return f, err
	}
	if f.ID, err = w.text(version + "/meta-data/instance-id"); err != nil {
		return f, err
	}
	public, err := w.text(version + "/meta-data/public-ipv4")
	f.Public = addresses(public)
	return f, err
}

package firstboot

import (
	"github.com/prose-im/prose-image/firstboot/status"
)

func nginxItem(w seen) status.Item {
	if e := w.errs[itemNGINX]; e != "" {
		it := item(status.Failed, "NGINX does not serve the sites of "+w.settings.Domain+".")
		it.Why, it.Do, it.Type = sentence(e), "The machine tries again by itself. See what NGINX says:", []string{"systemctl status nginx", "sudo journalctl -u nginx -n 20"}
		return it
	}
	if !w.siteTaken() {
		return item(status.Doing, "NGINX gets the sites of "+w.settings.Domain+".")
	}
	for _, host := range sortedHosts(w.certs) {
		if w.certs[host].HTTPS.Down {
			it := item(status.Failed, "NGINX does not answer on port 443.")
			it.Why = "Until it does, nobody reaches the web app and the dashboard."
			it.Do, it.Type = "See why it does not run:", []string{"systemctl status nginx"}
			return it
		}
	}
	return item(status.Done, "NGINX answers on ports 80 and 443.")
}

package agenttest

import (
	"testing"
	"time"
)

// stateDirs are where the agent keeps what it knows and what it has made.
var stateDirs = []string{"etc/letsencrypt", "etc/nftables.d/prose.d", "etc/prose", "etc/prose-firstboot.d", "etc/prosody/certs", "run/prose-firstboot", "var/lib/prose-firstboot"}

// save keeps the state under a name; restore brings it back. Engine, Pod, NGINX
// and Prosody go on meanwhile.
func (b *box) save(t testing.TB, name string) {
	t.Helper()
	b.Run(t, append([]string{"sh", "-ec", `to=/root/saved/$1; shift; rm -rf "$to"; mkdir -p "$to"; cd /; cp -a --parents "$@" "$to"`, "sh", name}, stateDirs...)...)
}

func (b *box) restore(t testing.TB, name string) {
	t.Helper()
	b.Run(t, append([]string{"sh", "-ec", `from=/root/saved/$1; shift; cd /; for d; do find "$d" -mindepth 1 -delete; cp -a "$from/$d/." "$d/"; done`, "sh", name}, stateDirs...)...)
}

// unset takes away all that the agent has made besides the Pod and what it has
// read.
func (b *box) unset(t testing.TB) {
	t.Helper()
	b.Run(t, "sh", "-ec", `find /etc/letsencrypt /etc/prosody/certs -mindepth 1 -delete
find /var/lib/prose-firstboot /etc/nftables.d/prose.d /run/prose-firstboot -type f -delete
rm -rf /var/lib/prose-firstboot/acme`)
}

// A journey is what the agent does on a machine in a certain state.
type journey struct {
	name string
	from string            // a saved state
	dns  map[string]string // addresses that are not the machine's, by name
	more func(b *box)      // what happens before the agent looks
	end  int               // exit code of status in the end
	made []string          // names that get a certificate
}

var journeys = []journey{
	{name: "first certificates", from: "unset", made: names},
	{name: "DNS comes late", from: "waiting", made: names},
	{name: "apex elsewhere", from: "unset", dns: map[string]string{domain: elsewhere}, end: 3, made: names[1:]},
	{name: "renewal", from: "ready", more: func(b *box) { b.agent("renew", "prose."+domain, domain) }, made: []string{domain, "prose." + domain}},
	{name: "other settings", from: "ready", more: func(b *box) { b.settings("company: Another\nfederation: false\n") }},
	{name: "first boot", from: "unset", made: names, more: func(b *box) {
		b.Run(b.t, "sh", "-c", `docker ps --all --quiet | xargs -r docker rm --force --volumes
docker network ls --quiet --filter label=com.docker.compose.project=prose | xargs -r docker network rm
docker volume ls --quiet --filter label=com.docker.compose.project=prose | xargs -r docker volume rm
rm -rf /etc/prose/prose.toml /var/lib/prosody/* /var/lib/prose-pod-server/* /var/lib/prose-pod-api/*`)
	}},
	{name: "first account", from: "ready", more: func(b *box) {
		b.Try("docker", "exec", "prose-server-1", "prosodyctl", "shell", "user", "delete", "bob@"+domain)
		b.Try("sh", "-c", "nginx -s reload")
		b.settings("admin:\n  username: bob\n  password: " + password + "\n")
	}},
}

// states brings a machine into the states that journeys begin with.
func (b *box) states(t testing.TB) {
	b.world.records(address, names...)
	b.settings("")
	b.ready(t)
	b.agent("run")
	b.save(t, "ready")
	b.unset(t)
	b.save(t, "unset")
	b.world.records("", names...)
	b.agent("run")
	b.save(t, "waiting")
	b.waiting = time.Now()
}

// begin brings the machine to the beginning of a journey.
func (b *box) begin(t testing.TB, j *journey) {
	t.Helper()
	if j.from == "waiting" {
		time.Sleep(time.Until(b.waiting.Add(31 * time.Second))) // until DNS is to be looked at again
	}
	b.log.Reset()
	b.restore(t, j.from)
	b.world.records(address, names...)
	for name, to := range j.dns {
		b.world.records(to, name)
	}
	if j.more != nil {
		j.more(b)
	}
}

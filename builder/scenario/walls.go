package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// wallCommands look at what gets in, and out.
var wallCommands = []Command{
	{Name: "closed", Args: "PORT...", least: 1, most: -1, valid: validClosed, do: doClosed,
		Doc: "Not a byte comes back from these ports, asked from elsewhere in HTTP, XMPP and TLS; port 80 answers the same way of asking."},
	{Name: "containers-cannot-reach", Args: "ADDRESS PORT", least: 2, most: 2, do: doCannotReach,
		Doc: "No container reaches an address that the machine itself reaches; each reaches another."},
	{Name: "canary", Args: "TEXT...", least: 1, most: -1, do: doCanary,
		Doc: "A secret is in no log, status, page or console, and in no file that others than root may read."},
}

func validClosed(args []string) error {
	for _, a := range args {
		p, err := strconv.Atoi(a)
		if err != nil || !slices.Contains(ports, p) || p == 80 {
			return fmt.Errorf("%q is none of the ports that lead to the machine: %v, but not 80", a, ports)
		}
	}
	return nil
}

// openers are first words of protocols that make a server speak.
var openers = []string{
	"GET / HTTP/1.0\r\n\r\n",
	"<?xml version='1.0'?><stream:stream to='x' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
	// A ClientHello too short to be one: TLS answers with an alert.
	"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
}

// silence is how long a port may take to say nothing.
const silence = 5 * time.Second

// speaks reports whether a byte comes back from a port. QEMU takes every
// connection and only then asks the guest, so a connection means nothing.
func (o *outside) speaks(ctx context.Context, port, opener string, within time.Duration) (bool, error) {
	conn, err := o.dial(ctx, "tcp", net.JoinHostPort(Address, port))
	if err != nil {
		return false, err // QEMU always listens: the way is broken
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return false, err
	}
	_, _ = conn.Write([]byte(opener))
	n, _ := conn.Read(make([]byte, 1))
	return n > 0, nil
}

func doClosed(ctx context.Context, r *run, args []string) error {
	within := r.config.Accel.Scale(silence)
	if ok, err := r.outside.speaks(ctx, "80", openers[0], within); err != nil || !ok {
		return errors.Join(errors.New("port 80 says nothing either"), err)
	}
	type answer struct {
		port string
		ok   bool
		err  error
	}
	answers := make(chan answer)
	for _, p := range args {
		for _, opener := range openers {
			go func() {
				ok, err := r.outside.speaks(ctx, p, opener, within)
				answers <- answer{p, ok, err}
			}()
		}
	}
	var wrong []error
	for range len(args) * len(openers) {
		switch a := <-answers; {
		case a.err != nil:
			wrong = append(wrong, a.err)
		case a.ok:
			wrong = append(wrong, fmt.Errorf("port %s answers", a.port))
		}
	}
	return errors.Join(wrong...)
}

func doCannotReach(ctx context.Context, r *run, args []string) error {
	// The images have no shell: the machine's own looks from their network.
	to := func(host, port string) string {
		return "timeout 10 bash -c " + quote("</dev/tcp/"+host+"/"+port) + " 2>/dev/null"
	}
	_, acmePort, err := net.SplitHostPort(acmeAddress)
	if err != nil {
		return err
	}
	out, err := r.machine.root(ctx, fmt.Sprintf(`%[1]s || echo "the machine itself does not reach %[3]s"
n=0
for c in $(docker ps --quiet); do
	n=$((n + 1))
	in="nsenter --net --target $(docker inspect --format '{{.State.Pid}}' $c)"
	name=$(docker inspect --format '{{.Name}}' $c)
	$in %[2]s || echo "$name does not reach the authority either"
	! $in %[1]s || echo "$name reaches %[3]s"
done
[ $n -gt 0 ] || echo "no container runs"`, to(args[0], args[1]), to(guestNameserver, acmePort), args[0]))
	if err == nil && strings.TrimSpace(out) != "" {
		err = errors.New(clip(out))
	}
	return err
}

func doCanary(ctx context.Context, r *run, args []string) error {
	var wrong []string
	for i, secret := range args {
		if strings.Contains(r.machine.vm.Console(), secret) {
			wrong = append(wrong, fmt.Sprintf("canary %d: on the console", i+1))
		}
		// By standard input, so that the search does not find itself; the
		// script is not: sudo's log would have it.
		out, err := r.machine.root(ctx, `umask 077
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
printf %s `+quote(obscured(secret))+` | tr 'N-ZA-Mn-za-m5-90-4' 'A-Za-z0-9' >"$d/canary"
found() { grep --quiet --fixed-strings --file="$d/canary" && echo "in $1" || true; }
journalctl --no-pager --all --output=export | found "the journal"
{ prose-firstboot status || true; prose-firstboot status --json || true; } 2>&1 | found "the status"
curl --silent --max-time 20 http://127.0.0.1/ | found "the page"
for c in $(docker ps --all --quiet); do docker logs $c 2>&1 | found "the log of $c"; docker inspect $c | found "the environment of $c"; done
dmesg | found "the kernel's log"
for f in /proc/[0-9]*/cmdline; do tr '\0' ' ' <"$f" 2>/dev/null || true; done | found "a command line"
grep --recursive --files-with-matches --fixed-strings --file="$d/canary" /var/log /run/prose-firstboot /run/log 2>/dev/null | sed 's/^/in /' || true
find / /run /tmp /dev/shm -xdev -path "$d" -prune -o -type f -perm /o+r -exec grep --files-with-matches --fixed-strings --file="$d/canary" {} + 2>/dev/null | sed 's/^/world-readable: /' || true
`)
		if err != nil {
			return err
		}
		if out = strings.TrimSpace(out); out != "" {
			wrong = append(wrong, fmt.Sprintf("canary %d: %s", i+1, strings.ReplaceAll(out, "\n", ", ")))
		}
	}
	if wrong != nil {
		return errors.New(strings.Join(wrong, "\n"))
	}
	return nil
}

// obscured turns letters by 13 and digits by 5, so that a script does not
// contain the secret that it looks for: sudo logs its command line.
func obscured(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return 'a' + (c-'a'+13)%26
		case c >= 'A' && c <= 'Z':
			return 'A' + (c-'A'+13)%26
		case c >= '0' && c <= '9':
			return '0' + (c-'0'+5)%10
		}
		return c
	}, s)
}

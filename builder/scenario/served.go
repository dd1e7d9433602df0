package scenario

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
)

// servedCommands compare what is served, and by what, with before.
var servedCommands = []Command{
	{Name: "remember", do: doRemember,
		Doc: "Remembers the serial numbers of the certificates that are served, and the processes that serve."},
	{Name: "new-serial", Args: "NAME", least: 1, most: 1, do: doNewSerial,
		Doc: "NGINX serves another certificate for a name than was remembered; for the domain itself Prosody, too, and the same one."},
	{Name: "same-serials", do: doSameSerials,
		Doc: "Every certificate that is served is the remembered one."},
	{Name: "same-processes", do: doSameProcesses,
		Doc: "NGINX and the containers are the remembered ones: nothing was restarted."},
}

// serials are the serial numbers that are served, by name and port. Whether
// they are trusted is another command's question.
func (r *run) serials(ctx context.Context) (map[string]string, error) {
	all := map[string]string{}
	for _, name := range r.names() {
		conn, err := r.outside.dial(ctx, "tcp", net.JoinHostPort(name, "443"))
		if err != nil {
			return nil, err
		}
		t := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		err = t.HandshakeContext(ctx)
		if err == nil {
			all[name+":443"] = t.ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
		}
		conn.Close()
		if err != nil {
			return nil, fmt.Errorf("shaking hands with %s: %w", name, err)
		}
	}
	state, err := r.outside.startTLS(ctx, r.Domain, &tls.Config{ServerName: r.Domain, InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	all[r.Domain+":5222"] = state.PeerCertificates[0].SerialNumber.Text(16)
	return all, nil
}

// processes tells one start of NGINX or of a container from another.
const processes = `systemctl show --property=MainPID,ExecMainStartTimestampMonotonic nginx.service
docker inspect --format '{{.Name}} {{.Id}} {{.State.StartedAt}}' $(docker ps --all --quiet) | sort`

func doRemember(ctx context.Context, r *run, _ []string) error {
	serials, err := r.serials(ctx)
	if err != nil {
		return err
	}
	for at, serial := range serials {
		r.saved["serial."+at] = serial
	}
	r.saved["processes"], err = r.machine.root(ctx, processes)
	return err
}

var errNothingRemembered = errors.New("no step before says remember")

func doNewSerial(ctx context.Context, r *run, args []string) error {
	now, err := r.serials(ctx)
	if err != nil {
		return err
	}
	places := []string{args[0] + ":443"}
	if args[0] == r.Domain {
		places = append(places, args[0]+":5222")
		if now[places[0]] != now[places[1]] {
			return fmt.Errorf("NGINX serves %s, Prosody %s", now[places[0]], now[places[1]])
		}
	}
	for _, at := range places {
		before, ok := r.saved["serial."+at]
		if !ok {
			return errNothingRemembered
		}
		if now[at] == before {
			return fmt.Errorf("%s still serves %s", at, before)
		}
	}
	return nil
}

func doSameSerials(ctx context.Context, r *run, _ []string) error {
	now, err := r.serials(ctx)
	if err != nil {
		return err
	}
	var wrong []string
	for at, serial := range now {
		before, ok := r.saved["serial."+at]
		if !ok {
			return errNothingRemembered
		}
		if before != serial {
			wrong = append(wrong, fmt.Sprintf("%s serves %s, before it was %s", at, serial, before))
		}
	}
	if wrong != nil {
		return errors.New(strings.Join(wrong, "\n"))
	}
	return nil
}

func doSameProcesses(ctx context.Context, r *run, _ []string) error {
	before, ok := r.saved["processes"]
	if !ok {
		return errNothingRemembered
	}
	now, err := r.machine.root(ctx, processes)
	if err != nil {
		return err
	}
	if now != before {
		return fmt.Errorf("before:\n%snow:\n%s", before, now)
	}
	return nil
}

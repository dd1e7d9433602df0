package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/smtp"
	"os"
	"slices"
	"strconv"
	"time"
)

const (
	serverPatience = 10 * time.Second
	serverPoll     = 100 * time.Millisecond
)

// An outcome is how the startup actions ended when they did not fail.
type outcome uint8

const (
	serves        outcome = iota
	misconfigured         // the server says that its configuration is bad
	panicked              // the process stays, listening on nothing
)

// An instance is one life of the API between two restarts.
type instance struct {
	*program
	conf   *config
	db     *database
	client *http.Client
	codes  codes
}

func newClient() *http.Client {
	return &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}

// start runs the startup actions in upstream's order.
func (in *instance) start(ctx context.Context) (outcome, error) {
	result := serves
	for _, action := range []struct {
		name string
		run  func(context.Context) (outcome, error)
	}{
		{"db_run_migrations", in.migrate},
		{"test_services_reachability", in.testServices},
		{"validate_app_config_changes", in.validateChanges},
		{"wait_for_server", in.waitForServer},
		{"init_server_config", in.initServerConfig},
	} {
		if slices.Contains(in.conf.skip, action.name) {
			in.log.Warnf("skipping %s, as configured", action.name)
			continue
		}
		if result == misconfigured {
			break
		}
		in.log.Debugf("startup: %s", action.name)
		var err error
		if result, err = action.run(ctx); err != nil || result == panicked {
			return result, err
		}
	}
	return result, nil
}

func (in *instance) migrate(context.Context) (outcome, error) {
	if err := in.db.migrate(); err != nil {
		return 0, fmt.Errorf("running database migrations: %w", err)
	}
	return serves, nil
}

// testServices says a few words of SMTP (RFC 5321, RFC 3207) to the mail server.
func (in *instance) testServices(ctx context.Context) (outcome, error) {
	s := in.conf.smtp
	if s == nil {
		return serves, nil
	}
	dialer := net.Dialer{Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(s.host, strconv.Itoa(s.port)))
	if err != nil {
		return 0, fmt.Errorf("SMTP server unreachable: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return 0, err
	}
	c, err := smtp.NewClient(conn, s.host)
	if err != nil {
		return 0, fmt.Errorf("SMTP server unreachable: %w", err)
	}
	if s.encrypt {
		err = c.StartTLS(&tls.Config{ServerName: s.host})
	}
	if err == nil {
		err = c.Noop()
	}
	if err != nil {
		return 0, fmt.Errorf("testing the SMTP server: %w", err)
	}
	return serves, nil
}

func (in *instance) validateChanges(context.Context) (outcome, error) {
	if chosen := in.db.get().ChosenDomain; chosen != "" && chosen != in.conf.domain {
		return 0, errors.New("the server domain cannot be changed after the first startup")
	}
	return serves, nil
}

// waitForServer polls the server's health. Codes that upstream's API does not
// know make its task panic.
func (in *instance) waitForServer(ctx context.Context) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, serverPatience)
	defer cancel()
	tick := time.NewTicker(serverPoll)
	defer tick.Stop()
	for {
		switch code := in.health(ctx); code {
		case "OK":
			return serves, nil
		case "BAD_CONFIGURATION":
			return misconfigured, nil
		case "", "SERVER_STARTING", "SERVER_RESTARTING", "RESTART_FAILED", "FACTORY_RESET_IN_PROGRESS":
		default:
			in.panics("Unexpected code: %s", code)
			return panicked, nil
		}
		select {
		case <-ctx.Done():
			return 0, errors.New("the server was not ready in time")
		case <-tick.C:
		}
	}
}

// health returns OK, the code of the server's fault, or nothing when it does
// not answer.
func (in *instance) health(ctx context.Context) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, in.conf.server+"/health", nil)
	if err != nil {
		return ""
	}
	res, err := in.client.Do(req)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return "OK"
	}
	var fault struct{ Code string }
	if json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&fault) != nil {
		return ""
	}
	return fault.Code
}

// initServerConfig writes Prosody's full configuration and has it applied.
func (in *instance) initServerConfig(ctx context.Context) (outcome, error) {
	err := os.WriteFile(in.conf.prosodyFile, []byte(prosodyConfig(in.conf)), 0o666)
	if err == nil {
		err = in.post(ctx, in.conf.server+"/lifecycle/reload")
	}
	if err != nil {
		return 0, fmt.Errorf("applying the configuration of Prosody: %w", err)
	}
	return serves, nil
}

// post sends an empty POST and wants success.
func (in *instance) post(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return err
	}
	res, err := in.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		return fmt.Errorf("%s answered %d: %s", url, res.StatusCode, text)
	}
	return nil
}

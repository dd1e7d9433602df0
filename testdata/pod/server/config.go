package main

import (
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/prose-im/prose-image/testdata/pod/podlog"
	"github.com/prose-im/prose-image/testdata/pod/prosetoml"
)

// invalid is how upstream starts the message about a bad configuration.
const invalid = "Invalid 'prose.toml' configuration file"

// config is the part of prose.toml that the server reads.
type config struct {
	domain     string
	hostname   string // under which the server reaches itself
	httpPort   int    // of Prosody
	address    string // host:port of the server's own API
	workspace  string // node of the workspace's account
	mainTeam   string
	logLevel   string
	logFormat  string
	logTimer   string
	prosodyLog string
}

// The server knows more keys than these and ignores what it does not know, but
// for the analytics table.
var schema = []prosetoml.Key{
	{Path: "server.domain", Kind: prosetoml.Domain},
	{Path: "server.local_hostname", Kind: prosetoml.Text, Min: 1, Max: 1024},
	{Path: "server.http_port", Kind: prosetoml.Port},
	{Path: "server.log_level", Kind: prosetoml.Enum, OneOf: podlog.Levels},
	{Path: "server_api.address", Kind: prosetoml.Addr},
	{Path: "server_api.port", Kind: prosetoml.Port},
	{Path: "service_accounts.prose_workspace.xmpp_node", Kind: prosetoml.Text, Min: 1},
	{Path: "service_accounts.prose_workspace.password", Kind: prosetoml.Text},
	{Path: "teams.main_team_name", Kind: prosetoml.Text},
	{Path: "policies.auto_update_enabled", Kind: prosetoml.Flag},
	{Path: "dashboard.url", Kind: prosetoml.URL},
	{Path: "auth.token_ttl", Kind: prosetoml.Duration},
	{Path: "auth.oauth2_registration_key", Kind: prosetoml.Text},
	{Path: "proxy.cloud_api_url", Kind: prosetoml.URL},
	{Path: "proxy.prose_files_url", Kind: prosetoml.URL},
	{Path: "log.level", Kind: prosetoml.Enum, OneOf: podlog.Levels},
	{Path: "log.format", Kind: prosetoml.Enum, OneOf: podlog.Formats},
	{Path: "log.timer", Kind: prosetoml.Enum, OneOf: podlog.Timers},
	{Path: "vendor_analytics.preset", Kind: prosetoml.Enum, OneOf: []string{"all", "default", "gdpr", "lgpd"}},
	{Path: "vendor_analytics.presets", Kind: prosetoml.Any},
	{Path: "vendor_analytics.enabled", Kind: prosetoml.Flag},
	{Path: "vendor_analytics.min_cohort_size", Kind: prosetoml.Count},
	{Path: "vendor_analytics.usage", Kind: prosetoml.Any},
	{Path: "vendor_analytics.acquisition", Kind: prosetoml.Any},
}

// loadConfig reads the configuration. Its errors want the prefix [invalid].
func loadConfig(path string, environ []string) (*config, error) {
	doc, err := prosetoml.Load(path, environ)
	if err == nil {
		err = doc.Check(schema, "vendor_analytics")
	}
	if err == nil && !doc.Has("server.domain") {
		err = errors.New("missing field `server.domain`")
	}
	ipOnly := doc != nil && (doc.Has("pod.address.ipv4") || doc.Has("pod.address.ipv6"))
	if err == nil && ipOnly && !doc.Has("dashboard.url") {
		err = errors.New("missing field `dashboard.url`")
	}
	if err != nil {
		return nil, err
	}
	return &config{
		domain:     strings.ToLower(doc.String("server.domain", "")),
		hostname:   doc.String("server.local_hostname", "prose-pod-server"),
		httpPort:   doc.Int("server.http_port", 5280),
		address:    net.JoinHostPort(doc.String("server_api.address", "0.0.0.0"), strconv.Itoa(doc.Int("server_api.port", 8080))),
		workspace:  doc.String("service_accounts.prose_workspace.xmpp_node", "prose-workspace"),
		mainTeam:   doc.String("teams.main_team_name", "Team"),
		logLevel:   doc.String("log.level", "info"),
		logFormat:  doc.String("log.format", "json"),
		logTimer:   doc.String("log.timer", "time"),
		prosodyLog: doc.String("server.log_level", "info"),
	}, nil
}

package main

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/prose-im/prose-image/testdata/pod/podlog"
	"github.com/prose-im/prose-image/testdata/pod/prosetoml"
)

// invalid is how upstream starts the message about a bad configuration.
const invalid = "Invalid 'prose.toml' configuration file"

// startupActions are the names that skip_startup_actions may hold.
var startupActions = []string{
	"db_run_migrations", "test_services_reachability", "validate_app_config_changes",
	"wait_for_server", "init_server_config", "register_oauth2_client", "start_cron_tasks",
}

func text(path string) prosetoml.Key {
	return prosetoml.Key{Path: path, Kind: prosetoml.Text, Min: 1, Max: 1024}
}

func of(kind prosetoml.Kind, paths ...string) []prosetoml.Key {
	var keys []prosetoml.Key
	for _, path := range paths {
		keys = append(keys, prosetoml.Key{Path: path, Kind: kind})
	}
	return keys
}

func enum(path string, names ...string) prosetoml.Key {
	return prosetoml.Key{Path: path, Kind: prosetoml.Enum, OneOf: names}
}

// schema is every key that the API knows. Any other stops it.
var schema = func() []prosetoml.Key {
	keys := []prosetoml.Key{
		{Path: "branding.company_name", Kind: prosetoml.Text, Min: 1, Max: 48},
		{Path: "branding.api_app_name", Kind: prosetoml.Text, Min: 1, Max: 48},
		{Path: "auth.min_password_length", Kind: prosetoml.Count, Min: 8},
		{Path: "notifiers.email.smtp_password", Kind: prosetoml.Text},
		text("server.local_hostname"),
		text("notifiers.email.pod_address"),
		text("notifiers.email.smtp_host"),
		text("notifiers.email.smtp_username"),
		text("service_accounts.prose_workspace.xmpp_node"),
		text("prosody_ext.config_file_path"),
		text("server.defaults.file_storage_encryption_scheme"),
		enum("server.log_level", "debug", "info", "warn", "error"),
		enum("server.defaults.tls_profile", "modern", "intermediate", "old"),
		enum("notifiers.workspace_invitation_channel", "email"),
		enum("log.level", podlog.Levels...),
		enum("log.format", podlog.Formats...),
		enum("log.timer", podlog.Timers...),
	}
	keys = append(keys, of(prosetoml.Domain, "server.domain", "pod.address.domain")...)
	keys = append(keys, of(prosetoml.Addr4, "pod.address.ipv4")...)
	keys = append(keys, of(prosetoml.Addr6, "pod.address.ipv6")...)
	keys = append(keys, of(prosetoml.Addr, "api.address")...)
	keys = append(keys, of(prosetoml.URL, "dashboard.url")...)
	keys = append(keys, of(prosetoml.Port, "server.http_port", "api.port", "server_api.port", "notifiers.email.smtp_port")...)
	keys = append(keys, of(prosetoml.Flag, "notifiers.email.smtp_encrypt",
		"server.defaults.message_archive_enabled", "server.defaults.file_upload_allowed", "server.defaults.mfa_required",
		"server.defaults.federation_enabled", "server.defaults.federation_whitelist_enabled",
		"server.defaults.push_notification_with_body", "server.defaults.push_notification_with_sender",
		"log.with_ansi", "log.with_file", "log.with_level", "log.with_target", "log.with_thread_ids",
		"log.with_line_number", "log.with_span_events", "log.with_thread_names",
		"debug_use_at_your_own_risk.log_config_at_startup", "debug_use_at_your_own_risk.detailed_error_responses",
		"debug_use_at_your_own_risk.c2s_unencrypted")...)
	keys = append(keys, of(prosetoml.Duration,
		"server.defaults.message_archive_retention", "server.defaults.file_storage_retention",
		"server.defaults.settings_backup_interval", "server.defaults.user_data_backup_interval",
		"api.network_checks.timeout", "api.network_checks.retry_interval", "api.network_checks.retry_timeout",
		"api.network_checks.dns_cache_ttl", "api.member_enriching.cache_ttl", "api.invitations.invitation_ttl",
		"auth.token_ttl", "auth.password_reset_token_ttl", "auth.invitation_ttl")...)
	keys = append(keys, of(prosetoml.List, "server.defaults.federation_friendly_servers",
		"public_contacts.default", "public_contacts.abuse", "public_contacts.admin", "public_contacts.feedback",
		"public_contacts.sales", "public_contacts.security", "public_contacts.support",
		"prosody_ext.additional_modules_enabled", "debug_use_at_your_own_risk.skip_startup_actions")...)
	keys = append(keys, of(prosetoml.Any, "prosody.*.defaults", "prosody.*.overrides")...)
	for _, db := range []string{"main", "main_read", "main_write"} {
		at := "api.databases." + db + "."
		keys = append(keys, text(at+"url"))
		keys = append(keys, of(prosetoml.Count, at+"min_connections", at+"max_connections", at+"connect_timeout", at+"acquire_timeout", at+"idle_timeout")...)
		keys = append(keys, of(prosetoml.Flag, at+"sqlx_logging")...)
	}
	return append(keys, prosetoml.Key{Path: "bootstrap", Kind: prosetoml.Empty})
}()

// A mailServer is where invitations are sent through.
type mailServer struct {
	host    string
	port    int
	encrypt bool
}

// config is the part of prose.toml that this program acts on.
type config struct {
	doc         *prosetoml.Document
	domain      string
	address     string      // host:port to listen on
	server      string      // URL of the Server API
	prosody     string      // URL of Prosody's HTTP
	prosodyFile string      // path of the configuration to write
	database    string      // path
	minPassword int         // characters
	smtp        *mailServer // nil: no e-mail
	detailed    bool        // error answers say more than a code
	skip        []string
}

// loadConfig reads the configuration. Its errors want the prefix [invalid].
func loadConfig(path string, environ []string) (*config, error) {
	doc, err := prosetoml.Load(path, environ)
	if err == nil {
		err = doc.Check(schema, "")
	}
	if err != nil {
		return nil, err
	}
	ip := doc.Has("pod.address.ipv4") || doc.Has("pod.address.ipv6")
	database, isSQLite := strings.CutPrefix(doc.String("api.databases.main.url", "sqlite:///var/lib/prose-pod-api/database.sqlite"), "sqlite://")
	switch {
	case !doc.Has("server.domain"):
		return nil, errors.New("missing field `server.domain`")
	case ip && !doc.Has("dashboard.url"):
		return nil, errors.New("missing field `dashboard.url`")
	case doc.Has("notifiers.email") && !doc.Has("notifiers.email.smtp_host"):
		return nil, errors.New("missing field `smtp_host` for key \"default.notifiers.email\"")
	case !isSQLite:
		return nil, errors.New("the database is not an SQLite one")
	}
	for _, name := range doc.Strings("debug_use_at_your_own_risk.skip_startup_actions") {
		if !slices.Contains(startupActions, name) {
			return nil, errors.New("unknown startup action `" + name + "`")
		}
	}
	host := doc.String("server.local_hostname", "prose-pod-server")
	c := &config{
		doc:         doc,
		domain:      strings.ToLower(doc.String("server.domain", "")),
		address:     net.JoinHostPort(doc.String("api.address", "0.0.0.0"), strconv.Itoa(doc.Int("api.port", 8080))),
		server:      "http://" + net.JoinHostPort(host, strconv.Itoa(doc.Int("server_api.port", 8080))),
		prosody:     "http://" + net.JoinHostPort(host, strconv.Itoa(doc.Int("server.http_port", 5280))),
		prosodyFile: doc.String("prosody_ext.config_file_path", "/etc/prosody/prosody.cfg.lua"),
		database:    database,
		minPassword: doc.Int("auth.min_password_length", 15),
		detailed:    doc.Bool("debug_use_at_your_own_risk.detailed_error_responses", false),
		skip:        doc.Strings("debug_use_at_your_own_risk.skip_startup_actions"),
	}
	if doc.Has("notifiers.email") {
		c.smtp = &mailServer{
			host:    doc.String("notifiers.email.smtp_host", ""),
			port:    doc.Int("notifiers.email.smtp_port", 587),
			encrypt: doc.Bool("notifiers.email.smtp_encrypt", true),
		}
	}
	return c, nil
}

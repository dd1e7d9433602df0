-- Prose Pod Server bootstrap configuration
-- What Prosody starts with: its shell and the accounts, nothing for clients.

pidfile = "/var/run/prosody/prosody.pid"
admin_socket = "/var/run/prosody/prosody.sock"

authentication = "internal_hashed"
default_storage = "internal"

log = { {{log_level}} = "*console" }

local_interfaces = { "*", "::" }
c2s_ports = { 5222 }
s2s_ports = { 5269 }
http_ports = { 5280 }
https_ports = {}

plugin_paths = { "/usr/local/lib/prosody/modules/" }
modules_enabled = { "admin_shell", "pod_reload" }
modules_disabled = { "s2s" }

allow_registration = false
c2s_require_encryption = true

VirtualHost "{{domain}}"
  modules_enabled = { "pod_accounts" }
  http_host = "{{hostname}}"
  pod_accounts_key = ENV_POD_ACCOUNTS_KEY

-- Prosody applies a new configuration file to hosts and modules only when it
-- starts. Upstream's server makes a reload do it too: new hosts are activated
-- and modules that the configuration now names are loaded. Modules that it no
-- longer names stay.

module:set_global();

local configmanager = require "prosody.core.configmanager";
local hostmanager = require "prosody.core.hostmanager";
local modulemanager = require "prosody.core.modulemanager";

-- applied: how many reloads were applied since Prosody started.
local state = module:shared("state");
state.applied = state.applied or 0;

local function apply()
	for host in pairs(configmanager.getconfig()) do
		if host ~= "*" and configmanager.get(host, "enabled") ~= false then
			if not prosody.hosts[host] then
				hostmanager.activate(host);
			else
				modulemanager.load_modules_for_host(host);
			end
		end
	end
	state.applied = state.applied + 1;
end

-- After every other handler, so that a reload that is counted is complete.
module:hook("config-reloaded", apply, -100);

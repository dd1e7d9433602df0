-- Accounts over HTTP for the programs of the Pod. Logging in needs the
-- account's password; the rest needs the key that prose-pod-server makes at
-- each start and hands to Prosody in its environment.

module:depends("http");

local array = require "prosody.util.array";
local base64 = require "prosody.util.encodings".base64;
local jid = require "prosody.util.jid";
local json = require "prosody.util.json";
local new_id = require "prosody.util.id".long;
local usermanager = require "prosody.core.usermanager";

local host = module.host;
local key = assert(module:get_option_string("pod_accounts_key"), "pod_accounts_key is not set");
local tokens = {};
local reloaded = module:shared("/*/pod_reload/state");

local function reply(event, code, value)
	event.response.headers.content_type = "application/json";
	event.response.status_code = code;
	return json.encode(value or {});
end

local function role_of(username)
	local role = usermanager.get_user_role(username, host);
	return role and role.name or "";
end

local function account(username)
	return { jid = username .. "@" .. host; role = role_of(username) };
end

local function with_key(handler)
	return function (event, ...)
		if event.request.headers.x_pod_key ~= key then
			return reply(event, 403);
		end
		return handler(event, ...);
	end
end

local function users(event)
	local list = array();
	for username in usermanager.users(host) do
		list:push(account(username));
	end
	list:sort(function (a, b) return a.jid < b.jid; end);
	return reply(event, 200, { users = list; count = #list });
end

-- Creates an account, or gives an existing one a new password.
local function put(event, username)
	local body = json.decode(event.request.body or "");
	if type(body) ~= "table" or type(body.password) ~= "string" or type(body.role) ~= "string" then
		return reply(event, 400, { error = "password and role are needed" });
	end
	local existed = usermanager.user_exists(username, host);
	local ok, err;
	if not existed then
		ok, err = usermanager.create_user_with_role(username, body.password, host, body.role);
	elseif body.replace then
		ok, err = usermanager.set_password(username, body.password, host, nil);
		if ok then
			ok, err = usermanager.set_user_role(username, host, body.role);
		end
	else
		return reply(event, 409, { error = "exists" });
	end
	if not ok then
		return reply(event, 500, { error = tostring(err) });
	end
	return reply(event, existed and 200 or 201, account(username));
end

local function login(event)
	local credentials = (event.request.headers.authorization or ""):match("^Basic (.+)$");
	local user, password = (credentials and base64.decode(credentials) or ""):match("^([^:]+):(.*)$");
	local node, domain = jid.prepped_split(user or "");
	if not node or domain ~= host or not usermanager.test_password(node, host, password) then
		return reply(event, 401);
	end
	local token = new_id();
	tokens[token] = node;
	local value = account(node);
	value.token = token;
	return reply(event, 200, value);
end

local function self(event)
	local token = (event.request.headers.authorization or ""):match("^Bearer (.+)$");
	local node = token and tokens[token];
	if not node or not usermanager.user_exists(node, host) then
		return reply(event, 401);
	end
	return reply(event, 200, account(node));
end

local function reloads(event)
	return reply(event, 200, { applied = reloaded.applied or 0 });
end

module:provides("http", {
	default_path = "/pod_accounts";
	route = {
		["GET /users"] = with_key(users);
		["PUT /users/*"] = with_key(put);
		["GET /reloads"] = with_key(reloads);
		["POST /login"] = login;
		["GET /self"] = self;
	};
});

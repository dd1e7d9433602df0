-- The version of the server part of the Pod, over HTTP.

module:depends("http");

local file = assert(io.open("/usr/lib/prosody/prose_version.json"));
local version = file:read("a");
file:close();

module:provides("http", {
	route = {
		GET = function (event)
			event.response.headers.content_type = "application/json";
			return version;
		end;
	};
});

// What the SDKs are told of the wire, and what is seen of it.
//
// The IoT SDKs take no port, so a server on ports of its own is reached by filling one in
// where they look it up. Without ports nothing is touched: the SDKs run as they are.
'use strict';
const diagnostics = require('diagnostics_channel');
const dns = require('dns');
const https = require('https');

let ports = null; // {"https", "mqtts"}
let notes = [];

exports.forget = () => { notes = []; };
exports.seen = () => notes;

exports.settle = (settings) => {
  ports = settings.ports || null;
  if (!ports) return;
  dns.setDefaultResultOrder('ipv4first'); // the server listens on 127.0.0.1 alone
  const request = https.request;
  https.request = (options, ...rest) => request(options.port ? options : { ...options, port: ports.https }, ...rest);
};

// Node tells of every HTTP exchange; nothing is wrapped for it.
diagnostics.subscribe('http.client.response.finish', ({ request, response }) => {
  const url = new URL(request.path, 'https://host');
  notes.push({ what: request.method + ' ' + url.pathname, version: url.searchParams.get('api-version') || '', status: response.statusCode });
});

// mqttHost is where MQTT clients connect: their host name may carry a port.
exports.mqttHost = (host) => (ports ? host + ':' + ports.mqtts : host);

// mqttBase is what the MQTT transports stand on; undefined means the SDK's own.
exports.mqttBase = () => {
  if (!ports) return undefined;
  const { MqttBase } = require('azure-iot-mqtt-base');
  return new MqttBase({ connect });
};

function connect(uri, options) {
  // 443 is fixed in the transport over WebSocket.
  const client = require('mqtt').connect(uri.replace(':443/', ':' + ports.https + '/'), options);
  const version = (/api-version=([^&]*)/.exec(options.username) || [])[1] || '';
  client.on('packetreceive', (packet) => {
    const status = packet.cmd === 'publish' && /^\$dps\/registrations\/res\/(\d+)\//.exec(packet.topic);
    if (status) notes.push({ what: 'PUBLISH', version, status: Number(status[1]) });
    if (packet.cmd === 'connack' && packet.returnCode) notes.push({ what: 'CONNECT', version, status: packet.returnCode });
  });
  return client;
}

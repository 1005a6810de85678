// azure-iot-provisioning-device with its transports and security clients:
//
//   {"call": "register" | "poll", "transport", "host", "idScope", "registrationId", "payload",
//    "key": base64 | "cert", "certKey": PEM}
'use strict';
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { Mqtt, MqttWs } = require('azure-iot-provisioning-device-mqtt');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');
const wire = require('./wire');

// A transport keeps its first certificate and host: each registration has its own.
const transports = {
  https: () => new Http(),
  mqtt: () => new Mqtt(wire.mqttBase()),
  'mqtt-ws': () => new MqttWs(wire.mqttBase()),
};

function security(d) {
  if (d.key) return new SymmetricKeySecurityClient(d.registrationId, d.key);
  return new X509Security(d.registrationId, { cert: d.cert, key: d.certKey });
}

function hostOf(d) {
  return d.transport === 'mqtt' ? wire.mqttHost(d.host) : d.host;
}

// register is what a device does, from the samples.
function register(d) {
  const client = ProvisioningDeviceClient.create(hostOf(d), d.idScope, transports[d.transport](), security(d));
  if (d.payload) client.setProvisioningPayload(d.payload);
  return new Promise((resolve, reject) => {
    client.register((err, result) => (err ? reject(err) : resolve(result)));
  });
}

// poll has the transport ask for the operation of a registration, which the client does
// by itself only while a server says "assigning".
async function poll(d) {
  const transport = transports[d.transport]();
  const request = { registrationId: d.registrationId, provisioningHost: hostOf(d), idScope: d.idScope };
  if (d.key) {
    const sas = await security(d).createSharedAccessSignature(d.idScope);
    transport.setSharedAccessSignature(sas.toString());
  } else {
    transport.setAuthentication({ cert: d.cert, key: d.certKey });
  }
  const ask = (call, ...args) => new Promise((resolve, reject) => {
    transport[call](...args, (err, result) => (err ? reject(err) : resolve(result)));
  });
  try {
    const operation = await ask('registrationRequest', request);
    return await ask('queryOperationStatus', request, operation.operationId);
  } finally {
    await new Promise((resolve) => transport.disconnect(resolve));
  }
}

exports.perform = (d) => ({ register, poll }[d.call](d));

// azure-iot-provisioning-device with its transports and security clients:
//
//   {"call": "register" | "poll", "transport", "host", "idScope", "registrationId", "payload",
//    "key": base64 | "cert", "certKey": PEM | "tpm": socket}
//
// and of a device with a TPM {"call": "keys" | "sign", "tpm", "text"}.
'use strict';
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { Mqtt, MqttWs } = require('azure-iot-provisioning-device-mqtt');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');
const { TpmSecurityClient } = require('azure-iot-security-tpm');
const tpm = require('./tpm');
const wire = require('./wire');

// A transport keeps its first certificate and host: each registration has its own.
const transports = {
  https: () => new Http(),
  mqtt: () => new Mqtt(wire.mqttBase()),
  'mqtt-ws': () => new MqttWs(wire.mqttBase()),
};

function security(d) {
  if (d.tpm) return new TpmSecurityClient(d.registrationId, tpm.at(d.tpm));
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

const settled = (client, call, ...args) => new Promise((resolve, reject) => {
  client[call](...args, (err, result) => (err ? reject(err) : resolve(result)));
});

// keys are those of a TPM, made if it has none, and the id that it has by them.
async function keys(d) {
  const client = security(d);
  const [registrationId, endorsementKey, storageRootKey] = [await settled(client, 'getRegistrationId'),
    await settled(client, 'getEndorsementKey'), await settled(client, 'getStorageRootKey')];
  return { registrationId, endorsementKey, storageRootKey };
}

// sign has the TPM sign a text with the key that the registration brought.
const sign = (d) => settled(security(d), 'signWithIdentity', Buffer.from(d.text));

exports.perform = (d) => ({ register, poll, keys, sign }[d.call](d));

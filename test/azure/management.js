// @azure/arm-deviceprovisioningservices:
//
//   {"call": a method of dpsCertificate, "endpoint", "token", "args": [...]}
//
// An argument {"bytes": base64} stands for bytes.
'use strict';
const { IotDpsClient } = require('@azure/arm-deviceprovisioningservices');

const subscription = '00000000-0000-0000-0000-000000000000';

exports.perform = (r) => {
  const credential = { getToken: async () => ({ token: r.token, expiresOnTimestamp: Date.now() + 3600000 }) };
  // $host makes the address, endpoint the scope of the token: both are needed.
  const client = new IotDpsClient(credential, subscription, { endpoint: r.endpoint, $host: r.endpoint });
  return client.dpsCertificate[r.call](...JSON.parse(JSON.stringify(r.args), bytes));
};

function bytes(_, value) {
  return value && typeof value.bytes === 'string' ? Buffer.from(value.bytes, 'base64') : value;
}

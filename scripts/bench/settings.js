// Settings of Node-RED for the benchmark: on loopback, as fast as it comes.
module.exports = {
    flowFile: 'flow.json',
    uiHost: '127.0.0.1',
    disableEditor: true,
    credentialSecret: false, // there are none
    telemetry: {enabled: false, updateNotification: false},
    externalModules: {autoInstall: false, palette: {allowInstall: false}},
};

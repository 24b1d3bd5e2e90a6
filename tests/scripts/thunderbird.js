// What a user does in Thunderbird, done in its windows. Run by Marionette, in the chrome context.
// Arguments: the deed, what it needs, and the function that takes the outcome.

const [deed, ...words] = arguments;
const done = words.pop();
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");

/** Waits until a question has an answer. */
async function until(what, question) {
  for (let tries = 0; tries < 500; tries++) {
    const answer = question();
    if (answer) {
      return answer;
    }
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  throw new Error(`in vain: ${what}`);
}

const deeds = {
  /** Keeps the password of an account, as after the first question. */
  async remember(host, account, password) {
    for (const protocol of ["imap", "smtp"]) {
      const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
      login.init(`${protocol}://${host}`, null, `${protocol}://${host}`, account, password, "", "");
      await Services.logins.addLoginAsync(login);
    }
  },

  /** Opens the inbox and the message of a subject, and marks it; gives what was shown. */
  async read(subject, words) {
    const pane = document.getElementById("tabmail").currentAbout3Pane;
    const root = MailServices.accounts.defaultAccount.incomingServer.rootFolder;
    const inbox = await until("an inbox", () => root.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox));
    await until("a list of messages", () => pane.displayFolder);
    pane.displayFolder(inbox.URI);
    inbox.getNewMessages(null, null);
    const rows = () => [...Array(pane.gDBView?.rowCount ?? 0).keys()];
    const row = await until(`a message ${subject}`, () =>
      rows().map(String).find(row => pane.gDBView.getMsgHdrAt(row).mime2DecodedSubject == subject)
    );
    pane.threadTree.selectedIndex = Number(row);
    const shown = await until(`${words} is shown`, () => {
      const text = pane.messageBrowser.contentWindow.getMessagePaneBrowser()?.contentDocument?.body?.textContent;
      return text?.includes(words) && text;
    });
    pane.commandController.doCommand("cmd_markAsFlagged");
    return shown;
  },

  /** Writes a message in a window of its own, presses Send, and waits until that window has closed itself. */
  async send(identity, to, subject, body) {
    const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
    Object.assign(fields, { to, subject, body });
    const params = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
    params.composeFields = fields;
    params.format = Ci.nsIMsgCompFormat.PlainText;
    params.identity = MailServices.accounts.getIdentity(identity);
    MailServices.compose.OpenComposeWindowWithParams(null, params);
    const written = await until("a window to write in", () => {
      const opened = Services.wm.getMostRecentWindow("msgcompose");
      return opened?.composeEditorReady && opened;
    });
    written.goDoCommand("cmd_sendNow");
    await until("it is sent", () => written.closed);
  },
};

deeds[deed](...words).then(
  value => done({ value: value ?? null }),
  error => done({ error: `${error}\n${error.stack}` })
);
